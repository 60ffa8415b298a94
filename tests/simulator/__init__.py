"""One process, one seed, virtual time: the engine's own code as actors, whose every step may be the last one."""
