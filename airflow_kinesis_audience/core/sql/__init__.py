"""How statements are built for each engine, how tables are named, and what a warehouse must be able to do."""
