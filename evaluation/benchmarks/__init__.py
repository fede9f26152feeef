"""Published protocols, over pictures that anybody made."""
