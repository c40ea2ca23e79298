package retinaface.demo

import org.junit.Assert.assertEquals
import org.junit.Test

class FitCenterTest {
    @Test
    fun laysAPictureInTheMiddle() {
        val fit = FitCenter.of(640, 480, 320, 400)
        assertEquals(0.5f, fit.scale)
        assertEquals(0f to 80f, fit.x(0f) to fit.y(0f))
        assertEquals(320f to 320f, fit.x(640f) to fit.y(480f))
    }

    @Test
    fun mirrors() {
        val fit = FitCenter.of(100, 100, 300, 100, mirrored = true)
        assertEquals(200f, fit.x(0f))
        assertEquals(190f, fit.x(10f))
        assertEquals(10f, fit.y(10f))
    }

    @Test
    fun turnsFramesUpright() {
        // A phone held upright, then turned left (its screen by 90 degrees); sensors as most are built in.
        assertEquals(90, uprightRotation(90, 0, Facing.BACK))
        assertEquals(0, uprightRotation(90, 90, Facing.BACK))
        assertEquals(180, uprightRotation(90, 270, Facing.BACK))
        assertEquals(270, uprightRotation(270, 0, Facing.FRONT))
        assertEquals(0, uprightRotation(270, 90, Facing.FRONT))
    }
}
