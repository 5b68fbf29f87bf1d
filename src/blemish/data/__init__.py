"""Images, masks and data sets: from files on disk to batches for a network, and maps back to pixels."""
