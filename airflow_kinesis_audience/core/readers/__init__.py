"""Readers in bounded memory of what is to be sent: change sets, profiles and events, by slice and group."""
