package retinaface

import java.util.Random
import kotlin.math.abs
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

class LandmarkSmootherTest {
    private val frame = 33_000_000L

    private fun face(x: Float, y: Float = 100f, side: Float = 80f) = Face(
        Box(x, y, x + side, y + side),
        0.9f,
        List(5) { Point(x + 10 * it, y + 20) },
    )

    @Test
    fun quietensAFaceAtRest() {
        val random = Random(3)
        val smoother = LandmarkSmoother()
        val raw = List(90) { face(100f + random.nextGaussian().toFloat()) }
        val steady = raw.mapIndexed { i, face -> smoother.smooth(listOf(face), i * frame).single() }
        fun jitter(faces: List<Face>) =
            faces.drop(15).map { it.landmarks[2].x }.zipWithNext { a, b -> abs(b - a) }.average()
        assertTrue("${jitter(raw)} to ${jitter(steady)}", jitter(steady) < 0.4 * jitter(raw))
        assertEquals(100.0, steady.drop(15).map { it.box.left.toDouble() }.average(), 0.5)
    }

    @Test
    fun keepsUpWithAFaceThatMoves() {
        val smoother = LandmarkSmoother()
        // Three widths of the face in a second.
        val behind = List(30) { i -> face(8f * i).let { it to smoother.smooth(listOf(it), i * frame).single() } }
            .map { (raw, smooth) -> raw.box.left - smooth.box.left }
        assertTrue("${behind.drop(10).max()} px behind", behind.drop(10).max() < 12f)
    }

    @Test
    fun keepsFacesApartWhenTheirOrderChanges() {
        val smoother = LandmarkSmoother()
        smoother.smooth(listOf(face(0f), face(300f)), 0)
        val (right, left) = smoother.smooth(listOf(face(300f), face(0f)), frame)
        assertEquals(300f, right.box.left, 0.01f)
        assertEquals(0f, left.box.left, 0.01f)
    }

    @Test
    fun beginsAnewWithAFaceThatJumpedOrAfterAGap() {
        val smoother = LandmarkSmoother()
        smoother.smooth(listOf(face(0f)), 0)
        assertEquals(face(200f), smoother.smooth(listOf(face(200f)), frame).single())
        assertEquals(face(210f), smoother.smooth(listOf(face(210f)), 100 * frame).single())
        smoother.reset()
        assertEquals(face(215f), smoother.smooth(listOf(face(215f)), 101 * frame).single())
        assertEquals(face(220f), smoother.smooth(listOf(face(220f)), 5).single())
    }
}
