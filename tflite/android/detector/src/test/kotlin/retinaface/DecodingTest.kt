package retinaface

import kotlin.math.abs
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class DecodingTest {
    @Test
    fun findsTheFacesThatPythonFinds() {
        val vectors = Vectors.all()
        assertTrue("only ${vectors.size} vectors", vectors.size >= 12)
        var worst = 0f
        var count = 0
        for (vector in vectors) {
            val (height, width) = vector.networkSize
            val faces = Decoder(vector.metadata, width, height)
                .read(vector.outputs, vector.placement, vector.threshold, vector.iou, vector.maxFaces)
            assertEquals(vector.name, vector.faces.size, faces.size)
            for ((expected, face) in vector.faces.zip(faces)) {
                assertEquals(vector.name, expected.score, face.score, 1e-5f)
                val differences = numbers(expected).zip(numbers(face)) { a, b -> abs(a - b) }
                assertTrue("${vector.name}: $expected, not $face", differences.max() <= 1e-3f)
                worst = maxOf(worst, differences.max())
                count++
            }
        }
        println("${vectors.size} vectors, $count faces, largest difference $worst px")
    }

    @Test
    fun findsFacesInPhotosThroughEveryFile() {
        val photos = Vectors.all().filter { it.picture != null }
        for (precision in listOf("float32", "int8")) {
            val found = photos.filter { it.metadata.precision == precision }
            assertTrue(precision, found.map { it.networkSize }.isNotEmpty() && found.sumOf { it.faces.size } > 10)
        }
    }

    @Test
    fun refusesScoresThatAreNoNumbers() {
        val vector = Vectors.all().first { it.name == "nothing" }
        vector.outputs.scores.fill(Float.NaN)
        val error = assertThrows(ModelException::class.java) { read(vector, vector.outputs) }
        assertTrue(error.message!!.contains("not numbers"))
    }

    @Test
    fun refusesOutputsOfAnotherNetwork() {
        val vector = Vectors.all().first { it.name == "crowded" }
        val fewer = RawOutputs(vector.outputs.scores.copyOf(7), vector.outputs.boxDeltas, vector.outputs.landmarkDeltas)
        assertThrows(ModelException::class.java) { read(vector, fewer) }
    }

    private fun read(vector: Vector, outputs: RawOutputs) =
        Decoder(vector.metadata, vector.networkSize.second, vector.networkSize.first)
            .read(outputs, vector.placement, vector.threshold, vector.iou, vector.maxFaces)

    private fun numbers(face: Face) =
        face.box.run { listOf(left, top, right, bottom) } + face.landmarks.flatMap { listOf(it.x, it.y) }
}
