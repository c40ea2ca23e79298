package retinaface

import java.io.File
import java.nio.ByteBuffer
import java.util.concurrent.Callable
import java.util.concurrent.Executors
import java.util.concurrent.atomic.AtomicInteger
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

/** Answers what a vector holds, whatever it is shown. */
class RecordedNetwork(private val vector: Vector) : Network {
    val sizes = mutableListOf<Pair<Int, Int>>()
    var closed = 0
    private val running = AtomicInteger()
    val mostAtOnce = AtomicInteger()

    override fun run(input: ByteBuffer, height: Int, width: Int): RawOutputs {
        mostAtOnce.accumulateAndGet(running.incrementAndGet(), ::maxOf)
        Thread.sleep(1)
        sizes += height to width
        running.decrementAndGet()
        return vector.outputs
    }

    override fun close() {
        closed++
    }
}

class RetinaFaceDetectorTest {
    private val vector = Vectors.photo("crowd-int8")
    private val network = RecordedNetwork(vector)
    private val detector = RetinaFaceDetector(vector.metadata, network)
    private val picture = ArrayPicture.noise(640, 480)

    @Test
    fun usesTheSettingsOfTheFileUnlessTold() {
        assertEquals(vector.faces.size, detector.detect(picture).size)
        assertEquals(2, detector.detect(picture, maxFaces = 2).size)
        assertTrue(detector.detect(picture, threshold = 0.02f).size > vector.faces.size)
        assertTrue(detector.detect(picture, iou = 1f).size > vector.faces.size)
    }

    @Test
    fun mapsFacesBackToThePicture() {
        val large = detector.detect(ArrayPicture.noise(1280, 960))
        for ((small, face) in vector.faces.zip(large)) {
            assertEquals(2 * small.box.right, face.box.right, 2e-3f)
            assertEquals(2 * small.landmarks[3].y, face.landmarks[3].y, 2e-3f)
        }
    }

    @Test
    fun searchesUprightPicturesInAnUprightInput() {
        detector.detect(picture)
        detector.detect(ArrayPicture.noise(480, 640))
        detector.detect(picture)
        assertEquals(listOf(480 to 640, 640 to 480, 480 to 640), network.sizes)
        val fixed = RetinaFaceDetector(vector.metadata.copy(resizable = false), network)
        fixed.detect(ArrayPicture.noise(480, 640))
        assertEquals(480 to 640, network.sizes.last())
    }

    @Test
    fun lastsThroughCallsFromManyThreads() {
        val pool = Executors.newFixedThreadPool(8)
        val answers = pool.invokeAll(List(40) { Callable { detector.detect(picture).size } }).map { it.get() }
        pool.shutdown()
        assertEquals(List(40) { vector.faces.size }, answers)
        assertEquals(1, network.mostAtOnce.get())
    }

    @Test
    fun closesItsNetworkOnce() {
        detector.close()
        detector.close()
        assertEquals(1, network.closed)
        assertThrows(IllegalStateException::class.java) { detector.detect(picture) }
    }

    @Test
    fun refusesSettingsThatCannotBe() {
        for (threshold in listOf(-0.1f, 1.1f, Float.NaN)) {
            assertThrows(IllegalArgumentException::class.java) { detector.detect(picture, threshold = threshold) }
        }
        assertThrows(IllegalArgumentException::class.java) { detector.detect(picture, iou = 2f) }
        assertThrows(IllegalArgumentException::class.java) { detector.detect(picture, maxFaces = 0) }
        assertThrows(IllegalArgumentException::class.java) { detector.detect(ArrayPicture.noise(0, 5)) }
    }

    @Test
    fun saysWhatIsWrongWithAFile() {
        val nowhere = File("/nowhere/face.tflite")
        val missing = assertThrows(ModelException::class.java) { RetinaFaceDetector.fromFile(nowhere) }
        assertTrue(missing.message!!.contains("Cannot read /nowhere/face.tflite"))
        // A good file, but this computer has no TensorFlow Lite for Android.
        val good = File(Vectors.folder, "models/int8.tflite")
        val error = assertThrows(ModelException::class.java) { RetinaFaceDetector.fromFile(good) }
        assertTrue(error.message, error.message!!.startsWith("TensorFlow Lite "))
    }
}
