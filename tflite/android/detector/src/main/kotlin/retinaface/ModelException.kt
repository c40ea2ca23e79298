package retinaface

/** A model file that cannot be used; the message says why and what to do, for a person to read. */
class ModelException(message: String, cause: Throwable? = null) : Exception(message, cause)
