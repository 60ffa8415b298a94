"""The nouns, as frozen values: audiences, changes, messages, events, profiles."""
