package retinaface

import java.util.Random
import kotlin.math.abs
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

/** Pixels in memory. */
class ArrayPicture(override val width: Int, override val height: Int, private val pixels: IntArray) : Picture {
    override fun readRow(y: Int, into: IntArray) = pixels.copyInto(into, 0, y * width, (y + 1) * width).let { }

    companion object {
        fun noise(width: Int, height: Int, seed: Long = 1): ArrayPicture {
            val random = Random(seed)
            return ArrayPicture(width, height, IntArray(width * height) { random.nextInt() })
        }
    }
}

class InputWriterTest {
    private val uint8 = Vectors.photo("small-int8").metadata
    private val float32 = Vectors.photo("small-float32").metadata

    @Test
    fun copiesPicturesThatFitAndPadsTheRest() {
        val picture = ArrayPicture.noise(40, 30)
        val input = write(uint8, picture, 64, 32)
        val row = IntArray(40)
        for (y in 0 until 32) {
            if (y < 30) picture.readRow(y, row)
            for (x in 0 until 64) {
                val expected = if (y < 30 && x < 40) row[x] and 0xFFFFFF else 0x7B7568
                assertEquals("$x, $y", expected, input[y][x])
            }
        }
    }

    @Test
    fun givesFloatsTheValuesOfBytes() {
        val picture = ArrayPicture.noise(100, 75)
        val bytes = write(uint8, picture, 64, 64)
        val floats = write(float32, picture, 64, 64)
        for (y in bytes.indices) assertTrue(bytes[y].contentEquals(floats[y]))
    }

    @Test
    fun shrinksByAveragingAreas() {
        for ((width, height) in listOf(128 to 96, 100 to 77, 333 to 64, 65 to 65)) {
            val picture = ArrayPicture.noise(width, height, width.toLong())
            val placement = Placement.fit(width, height, 64, 48)
            val input = write(uint8, picture, 64, 48)
            for (y in 0 until placement.contentHeight) {
                for (x in 0 until placement.contentWidth) {
                    for (shift in listOf(16, 8, 0)) {
                        val expected = mean(picture, placement, x, y, shift)
                        val found = input[y][x] shr shift and 255
                        assertTrue("$width x $height at $x, $y: $expected, not $found", abs(expected - found) <= 0.5001)
                    }
                }
            }
        }
    }

    @Test
    fun enlargesBetweenPixels() {
        val picture = ArrayPicture(3, 2, intArrayOf(0, 80, 160, 40, 120, 200))
        val writer = InputWriter(uint8, 6, 4)
        writer.write(picture, Placement(3, 2, 6, 4, 6, 4))
        val blue = List(4 * 6) { writer.buffer.get(3 * it + 2).toInt() and 255 }
        val across = listOf(0, 20, 60, 100, 140, 160)
        val expected = listOf(0, 10, 30, 40).flatMap { down -> across.map { it + down } }
        assertEquals(expected, blue)
        writer.write(ArrayPicture(1, 1, intArrayOf(7)), Placement(1, 1, 6, 4, 6, 4))
        assertTrue(List(4 * 6) { writer.buffer.get(3 * it + 2).toInt() }.all { it == 7 })
    }

    /** By definition: every pixel of the picture, weighted by its overlap. */
    private fun mean(picture: Picture, placement: Placement, x: Int, y: Int, shift: Int): Double {
        val across = picture.width.toDouble() / placement.contentWidth
        val down = picture.height.toDouble() / placement.contentHeight
        val row = IntArray(picture.width)
        var sum = 0.0
        for (sy in 0 until picture.height) {
            val v = minOf((y + 1) * down, sy + 1.0) - maxOf(y * down, sy.toDouble())
            if (v <= 0) continue
            picture.readRow(sy, row)
            for (sx in 0 until picture.width) {
                val u = minOf((x + 1) * across, sx + 1.0) - maxOf(x * across, sx.toDouble())
                if (u > 0) sum += u * v * (row[sx] shr shift and 255)
            }
        }
        return sum / (across * down)
    }

    /** Rows of 0xRRGGBB, as the network is given them. */
    private fun write(metadata: ModelMetadata, picture: Picture, width: Int, height: Int): List<IntArray> {
        val writer = InputWriter(metadata, width, height)
        writer.write(picture, Placement.fit(picture.width, picture.height, width, height))
        return List(height) {
            IntArray(width) {
                val channels = List(3) {
                    if (metadata.inputType == InputType.FLOAT32) writer.buffer.float.toInt() else writer.buffer.get().toInt() and 255
                }
                (channels[0] shl 16) or (channels[1] shl 8) or channels[2]
            }
        }
    }
}
