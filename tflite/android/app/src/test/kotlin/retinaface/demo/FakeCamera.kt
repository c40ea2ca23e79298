package retinaface.demo

import android.view.Surface
import retinaface.Picture
import retinaface.YuvPicture

/** A camera whose frames a test hands over. */
class FakeCamera : FrameSource {
    override var facings = listOf(Facing.BACK, Facing.FRONT)
    var failure: CameraException? = null
    var running: Facing? = null
    private var listener: FrameSource.Listener? = null
    private var nanos = 0L

    override fun format(facing: Facing, displayRotation: Int): FrameFormat {
        failure?.let { throw it }
        return FrameFormat(480, 640, 640, 480, mirrored = facing == Facing.FRONT)
    }

    override fun start(facing: Facing, displayRotation: Int, preview: Surface, listener: FrameSource.Listener) {
        running = facing
        this.listener = listener
    }

    override fun stop() {
        running = null
        listener = null
    }

    fun give(frame: Picture) {
        nanos += 33_000_000
        checkNotNull(listener) { "the camera is off" }.onFrame(frame, nanos)
    }

    fun fail(reason: String) = checkNotNull(listener).onFailure(reason)
}

/** A picture as a camera gives it whose sensor is turned by [rotation]. */
fun cameraFrame(width: Int, height: Int, rotation: Int, pixel: (x: Int, y: Int) -> Int): YuvPicture {
    val turned = rotation % 180 != 0
    val frameWidth = if (turned) height else width
    val frameHeight = if (turned) width else height
    val y = ByteArray(frameWidth * frameHeight)
    val u = ByteArray(frameWidth * frameHeight / 4)
    val v = ByteArray(u.size)
    for (row in 0 until frameHeight) {
        for (column in 0 until frameWidth) {
            val rgb = when (rotation) {
                0 -> pixel(column, row)
                90 -> pixel(width - 1 - row, column)
                180 -> pixel(width - 1 - column, height - 1 - row)
                else -> pixel(row, height - 1 - column)
            }
            val r = rgb shr 16 and 255
            val g = rgb shr 8 and 255
            val b = rgb and 255
            val brightness = 0.299 * r + 0.587 * g + 0.114 * b
            val color = row / 2 * (frameWidth / 2) + column / 2
            y[row * frameWidth + column] = Math.round(brightness).toByte()
            u[color] = Math.round(128 + (b - brightness) / 1.772).toInt().coerceIn(0, 255).toByte()
            v[color] = Math.round(128 + (r - brightness) / 1.402).toInt().coerceIn(0, 255).toByte()
        }
    }
    return YuvPicture(frameWidth, frameHeight, rotation, y, u, v, frameWidth, frameWidth / 2, 1)
}
