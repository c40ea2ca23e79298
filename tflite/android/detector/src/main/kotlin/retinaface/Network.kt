package retinaface

import java.nio.ByteBuffer

/** What runs the network. A detector calls it from one thread at a time. */
interface Network : AutoCloseable {
    /**
     * @param input [height] x [width] RGB pixels in the type that the file names, at its start.
     * @throws ModelException the network cannot be run.
     */
    fun run(input: ByteBuffer, height: Int, width: Int): RawOutputs
}
