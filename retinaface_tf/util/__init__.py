"""What any room may use: whole files, checksums, the cache folder, child processes, progress bars."""
