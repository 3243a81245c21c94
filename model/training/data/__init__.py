"""Public talking-face sets become shards of face tracks."""
