package retinaface

import java.nio.ByteBuffer
import kotlin.math.abs
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class ZoomTest {
    @Test
    fun looksWherePythonLooksAndJoinsItsFaces() {
        var tiles = 0
        var faces = 0
        for (vector in Vectors.zoom()) {
            var before = 1.0
            for ((step, closer) in vector.steps.zip(vector.looks)) {
                val zoom = Zoom(vector.placement, step.tile[1], step.tile[0])
                assertEquals(vector.name, vector.looks.size, zoom.looks.size)
                zoom.looks.zip(vector.looks) { found, expected -> assertEquals(vector.name, expected, found, 1e-9) }
                val corners = zoom.regions(step.faces, before, closer, step.limit)
                assertEquals(vector.name, step.corners, corners.map(::list))
                assertEquals(vector.name, step.parts, corners.map { list(zoom.view(closer, it)) })
                val joined = zoom.join(step.faces, step.found, corners, closer, vector.iou)
                assertEquals(vector.name, step.joined.size, joined.size)
                for ((expected, face) in step.joined.zip(joined)) {
                    assertEquals(vector.name, expected.score, face.score, 1e-6f)
                    assertTrue(vector.name, abs(expected.box.left - face.box.left) < 1e-3f)
                    assertEquals(vector.name, expected.landmarks, face.landmarks)
                }
                before = closer
                tiles += corners.size
                faces += joined.size
            }
        }
        assertTrue("$tiles tiles", tiles > 30)
        println("$tiles tiles of closer looks, $faces faces")
    }

    /** Sees one small face: unsure in the picture, sure in the middle of tiles. */
    private class FarFace(private val metadata: ModelMetadata) : Network {
        val sizes = mutableListOf<Pair<Int, Int>>()

        override fun run(input: ByteBuffer, height: Int, width: Int): RawOutputs {
            sizes += height to width
            val anchors = AnchorTable(metadata.levels, width, height)
            val i = (0 until anchors.count).filter { anchors.size[it] == 16f }
                .minBy { abs(anchors.centerX[it] - width / 2f) + abs(anchors.centerY[it] - height / 2f) }
            val scores = FloatArray(anchors.count)
            scores[i] = if (width == 640) 0.3f else 0.8f
            return RawOutputs(scores, FloatArray(4 * anchors.count), FloatArray(10 * anchors.count))
        }

        override fun close() = Unit
    }

    @Test
    fun findsAnUnsureSmallFaceSureInATile() {
        val metadata = Vectors.photo("crowd-int8").metadata
        val network = FarFace(metadata)
        val detector = RetinaFaceDetector(metadata, network)
        val picture = ArrayPicture.noise(640, 480)
        assertEquals(emptyList<Face>(), detector.detect(picture))
        val (face) = detector.detect(picture, zoomTiles = 32)
        assertEquals(0.8f, face.score, 1e-6f)
        // Half the size, as the tile is twice as close, and near to where it was.
        assertEquals(8f, face.box.width, 0.1f)
        assertTrue("${face.box}", abs(face.box.left + face.box.right - 640) < 20)
        assertEquals(listOf(480 to 640, 480 to 640, 224 to 224), network.sizes)
        val fixed = FarFace(metadata)
        RetinaFaceDetector(metadata.copy(resizable = false), fixed).detect(picture, zoomTiles = 1)
        assertEquals(listOf(480 to 640, 480 to 640), fixed.sizes)
        assertThrows(IllegalArgumentException::class.java) { detector.detect(picture, zoomTiles = -1) }
    }

    private fun list(part: Part) = listOf(part.left, part.top, part.right, part.bottom)
}
