"""Content fingerprint of data that lies in files, as the plan and `ablate data check` give it."""
