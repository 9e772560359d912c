"""Ray lives here: hosts, directory, links, launch. Everything else knows nothing of Ray."""
