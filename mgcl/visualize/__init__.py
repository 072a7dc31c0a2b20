"""Pictures of episodes, as in the field's figures: what the network saw, gave and missed."""
