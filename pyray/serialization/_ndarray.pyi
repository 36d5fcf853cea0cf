"""What the codec needs of numpy; imported when the first array is met."""

_api: object
