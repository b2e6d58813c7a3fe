"""Worker processes: forked from a zygote, fed in batches, gone without loss."""
