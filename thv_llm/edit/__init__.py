"""Set and remove keys in the texts of settings files, touching nothing else."""
