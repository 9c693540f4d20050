"""What everything else stands on: errors, keyed draws, files that are whole or not there. Imports nothing of ours."""
