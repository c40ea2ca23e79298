package retinaface.demo

import retinaface.Face
import retinaface.LandmarkSmoother
import retinaface.Picture
import retinaface.RetinaFaceDetector

/**
 * What was found in a picture or frame.
 *
 * @property width of the picture; likewise [height].
 * @property millis that the search took.
 * @property framesPerSecond of a stream, averaged; 0 for a picture or a first frame.
 */
class Finding(
    val faces: List<Face>,
    val width: Int,
    val height: Int,
    val millis: Float,
    val framesPerSecond: Float,
)

/** Finds and steadies the faces of a stream of frames, and counts these by their own times. For one thread. */
class FaceStream(private val clock: () -> Long = System::nanoTime) {
    private val smoother = LandmarkSmoother()
    private var last = 0L
    private var interval = 0f

    fun find(detector: RetinaFaceDetector, frame: Picture, nanos: Long): Finding {
        val began = clock()
        val faces = smoother.smooth(detector.detect(frame), nanos)
        val ended = clock()
        val passed = (nanos - last) / 1e9f
        interval = when {
            last == 0L || passed > 1f -> 0f
            interval == 0f -> passed
            else -> interval + 0.1f * (passed - interval)
        }
        last = nanos
        val rate = if (interval > 0f) 1 / interval else 0f
        return Finding(faces, frame.width, frame.height, (ended - began) / 1e6f, rate)
    }
}
