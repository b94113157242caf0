"""A page to play with: blur a drawing or a picture, and see what trained networks make of it."""
