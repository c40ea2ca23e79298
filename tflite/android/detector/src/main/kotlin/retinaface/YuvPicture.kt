package retinaface

import android.media.Image
import java.nio.ByteBuffer

/**
 * A camera frame in YUV 4:2:0 (BT.601, full range, as `ImageFormat.YUV_420_888`), turned upright
 * while it is read.
 *
 * @param frameWidth of the frame as the camera gives it; likewise [frameHeight].
 * @param rotation degrees clockwise that turn the frame upright: 0, 90, 180 or 270.
 * @param y brightness, [yRowStride] bytes a row.
 * @param u, v colour, a value for 2x2 pixels, [uvPixelStride] bytes apart in rows of [uvRowStride].
 */
class YuvPicture(
    private val frameWidth: Int,
    private val frameHeight: Int,
    private val rotation: Int,
    private val y: ByteArray,
    private val u: ByteArray,
    private val v: ByteArray,
    private val yRowStride: Int,
    private val uvRowStride: Int,
    private val uvPixelStride: Int,
) : Picture {
    init {
        require(rotation in setOf(0, 90, 180, 270)) { "rotation=$rotation must be 0, 90, 180 or 270" }
        val lastY = (frameHeight - 1) * yRowStride + frameWidth - 1
        val lastUv = (frameHeight - 1) / 2 * uvRowStride + (frameWidth - 1) / 2 * uvPixelStride
        require(lastY < y.size && lastUv < u.size && lastUv < v.size) {
            "a frame of $frameWidth x $frameHeight pixels needs more bytes"
        }
    }

    override val width: Int get() = if (rotation % 180 == 0) frameWidth else frameHeight
    override val height: Int get() = if (rotation % 180 == 0) frameHeight else frameWidth

    override fun readRow(y: Int, into: IntArray) {
        val last = width - 1
        when (rotation) {
            0 -> for (x in 0..last) into[x] = pixel(x, y)
            90 -> for (x in 0..last) into[x] = pixel(y, frameHeight - 1 - x)
            180 -> for (x in 0..last) into[x] = pixel(frameWidth - 1 - x, frameHeight - 1 - y)
            else -> for (x in 0..last) into[x] = pixel(frameWidth - 1 - y, x)
        }
    }

    /** Coefficients in 1/65536. */
    private fun pixel(column: Int, row: Int): Int {
        val color = (row shr 1) * uvRowStride + (column shr 1) * uvPixelStride
        val brightness = (y[row * yRowStride + column].toInt() and 255) shl 16
        val blue = (u[color].toInt() and 255) - 128
        val red = (v[color].toInt() and 255) - 128
        val r = (brightness + 91881 * red + HALF) shr 16
        val g = (brightness - 22554 * blue - 46802 * red + HALF) shr 16
        val b = (brightness + 116130 * blue + HALF) shr 16
        return (clamp(r) shl 16) or (clamp(g) shl 8) or clamp(b)
    }

    private fun clamp(value: Int) = if (value < 0) 0 else if (value > 255) 255 else value

    companion object {
        private const val HALF = 1 shl 15

        /**
         * Copies a frame, so that [image] may be closed at once.
         *
         * @param image in `ImageFormat.YUV_420_888`.
         * @param rotation as in the constructor.
         */
        fun copyOf(image: Image, rotation: Int): YuvPicture {
            val (y, u, v) = image.planes
            return YuvPicture(
                image.width,
                image.height,
                rotation,
                bytes(y.buffer),
                bytes(u.buffer),
                bytes(v.buffer),
                y.rowStride,
                u.rowStride,
                u.pixelStride,
            )
        }

        private fun bytes(buffer: ByteBuffer): ByteArray =
            buffer.duplicate().let { copy -> ByteArray(copy.rewind().remaining()).also { copy.get(it) } }
    }
}
