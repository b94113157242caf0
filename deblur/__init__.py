"""Motion-blur image deblurring with neural networks."""
