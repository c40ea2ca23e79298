package retinaface

import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test

class YuvPictureTest {
    /** 4 x 2 pixels, a brightness for each, grey; rows padded to 6 bytes and colours interleaved. */
    private fun frame(rotation: Int) = YuvPicture(
        4, 2, rotation,
        y = byteArrayOf(10, 20, 30, 40, 99, 99, 50, 60, 70, 80),
        u = ByteArray(3) { 128.toByte() },
        v = ByteArray(3) { 128.toByte() },
        yRowStride = 6, uvRowStride = 6, uvPixelStride = 2,
    )

    @Test
    fun turnsFramesUpright() {
        assertEquals(listOf(listOf(10, 20, 30, 40), listOf(50, 60, 70, 80)), rows(frame(0)))
        assertEquals(listOf(listOf(50, 10), listOf(60, 20), listOf(70, 30), listOf(80, 40)), rows(frame(90)))
        assertEquals(listOf(listOf(80, 70, 60, 50), listOf(40, 30, 20, 10)), rows(frame(180)))
        assertEquals(listOf(listOf(40, 80), listOf(30, 70), listOf(20, 60), listOf(10, 50)), rows(frame(270)))
    }

    @Test
    fun convertsColors() {
        // JFIF: Y = 0.299 R + 0.587 G + 0.114 B, Cb = 128 + (B - Y) / 1.772, Cr = 128 + (R - Y) / 1.402
        assertEquals(0xFFFFFF, pixel(255, 128, 128))
        assertEquals(0x000000, pixel(0, 128, 128))
        assertEquals(0xFE0000, pixel(76, 85, 255))
        assertEquals(0x0000FE, pixel(29, 255, 107))
        assertEquals(0x00FF01, pixel(150, 44, 21))
    }

    @Test
    fun refusesFramesWithTooFewBytes() {
        assertThrows(IllegalArgumentException::class.java) {
            YuvPicture(4, 4, 0, ByteArray(15), ByteArray(4), ByteArray(4), 4, 2, 1)
        }
        assertThrows(IllegalArgumentException::class.java) { frame(45) }
    }

    private fun pixel(y: Int, u: Int, v: Int): Int {
        fun one(value: Int) = byteArrayOf(value.toByte())
        val row = IntArray(1)
        YuvPicture(1, 1, 0, one(y), one(u), one(v), 1, 1, 1).readRow(0, row)
        return row[0]
    }

    private fun rows(picture: Picture): List<List<Int>> = List(picture.height) { y ->
        IntArray(picture.width).also { picture.readRow(y, it) }.map { it and 255 }
    }
}
