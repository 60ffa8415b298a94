"""One run of a sync: compare the source with the published membership, check the guards, commit the change set."""
