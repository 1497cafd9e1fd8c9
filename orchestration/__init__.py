"""How it runs: definitions, partitions, jobs, schedules, sensors and the command line."""
