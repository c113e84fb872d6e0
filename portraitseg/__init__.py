"""What two or more stages share: contract, data, networks, manifest, runners. Never imports a stage."""
