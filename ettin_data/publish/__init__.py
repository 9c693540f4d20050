"""A finished run sent to a hub or a bucket, and every file of it checked there."""
