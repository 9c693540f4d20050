"""What a build will take: measured on a sample, promised with intervals, and held against what came."""
