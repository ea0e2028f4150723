"""What becomes of a trained model: its folder and card, the Hub, a Space, and trackers along the way."""
