"""Speed claims, each a command: prints machine, versions, spread, and rivals side by side in one run."""
