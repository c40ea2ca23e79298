"""Building blocks of the network, in Keras layers and `keras.ops` only."""
