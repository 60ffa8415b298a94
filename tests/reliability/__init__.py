"""What breaks in production, made to happen: crashes at every step, weeks of faults, loads, hostile input."""
