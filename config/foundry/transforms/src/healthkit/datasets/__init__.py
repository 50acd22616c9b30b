"""The transforms that Foundry runs. Only this package imports `transforms`."""
