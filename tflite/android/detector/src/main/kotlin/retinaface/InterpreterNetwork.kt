package retinaface

import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import org.tensorflow.lite.Interpreter

/**
 * The network in a TensorFlow Lite (LiteRT) interpreter.
 *
 * @param model the file.
 * @param options threads and delegates; XNNPACK runs the whole graph unless told otherwise.
 * @throws ModelException the interpreter does not take the file.
 */
class InterpreterNetwork(model: ModelFile, options: Interpreter.Options) : Network {
    private val interpreter: Interpreter
    private var size = 0 to 0
    private var outputs: Map<Int, FloatBuffer> = emptyMap()

    // The interpreter reads the weights where they are.
    @Suppress("unused")
    private val content: ByteBuffer = model.content

    init {
        interpreter = attempt("does not take the file") { Interpreter(content, options) }
    }

    override fun run(input: ByteBuffer, height: Int, width: Int): RawOutputs =
        attempt("cannot run the network at $width x $height") {
            if (size != height to width) resize(height, width)
            outputs.values.forEach { it.rewind() }
            interpreter.runForMultipleInputsOutputs(arrayOf(input), outputs)
            RawOutputs(read("scores"), read("box_deltas"), read("landmark_deltas"))
        }

    override fun close() = interpreter.close()

    private fun resize(height: Int, width: Int) {
        size = 0 to 0
        if (!interpreter.getInputTensor(0).shape().contentEquals(intArrayOf(1, height, width, 3))) {
            interpreter.resizeInput(0, intArrayOf(1, height, width, 3))
        }
        interpreter.allocateTensors()
        outputs = (0 until interpreter.outputTensorCount).associateWith {
            val bytes = interpreter.getOutputTensor(it).numBytes()
            ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder()).asFloatBuffer()
        }
        size = height to width
    }

    private fun read(name: String): FloatArray {
        val (_, buffer) = outputs.entries.first { interpreter.getOutputTensor(it.key).name() == name }
        return FloatArray(buffer.capacity()).also { buffer.duplicate().apply { rewind() }.get(it) }
    }

    private fun <T> attempt(what: String, action: () -> T): T =
        try {
            action()
        } catch (error: IllegalArgumentException) {
            throw failure(what, error)
        } catch (error: IllegalStateException) {
            throw failure(what, error)
        } catch (error: NoSuchElementException) {
            throw failure(what, error)
        } catch (error: UnsatisfiedLinkError) {
            throw failure("is not built into this app for this processor", error)
        }

    private fun failure(what: String, error: Throwable) =
        ModelException("TensorFlow Lite $what: ${error.message}", error)
}
