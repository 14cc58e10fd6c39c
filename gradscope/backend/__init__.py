"""Everything that touches the insides of Keras or TensorFlow."""
