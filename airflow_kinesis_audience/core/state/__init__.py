"""What is published so far: the ledger, what its rows add up to, the tables of a membership, their retention."""
