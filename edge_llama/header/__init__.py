"""The header of a GGUF file: metadata, tensor descriptions, the shape of the model.

``buffer`` reads bytes, ``strings`` and ``cursor`` values, ``parser`` all of one file; ``split``
joins a model in several files, and ``keys`` and ``hyperparameters`` give the metadata types.
Nothing is exported here, so that a part costs no more than it needs: ``split`` loads no numpy.
"""
