package retinaface

import java.io.File
import java.security.MessageDigest
import java.util.Random
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class ModelFileTest {
    private val files = File(Vectors.folder, "models").listFiles().orEmpty().filter { it.extension == "tflite" }
    private val bytes by lazy { File(Vectors.folder, "models/int8.tflite").readBytes() }

    @Test
    fun readsWhatEveryExportSaysAboutItself() {
        assertEquals(3, files.size)
        for (file in files) {
            val model = ModelFile.read(file.readBytes(), file.name)
            val expected = Vectors.all().first { it.model == file }.metadata
            assertEquals(expected, model.metadata)
            val content = ByteArray(model.content.remaining()).also { model.content.duplicate().get(it) }
            assertArrayEquals(file.readBytes(), content)
            assertTrue(model.content.isDirect)
        }
    }

    @Test
    fun knowsTheInt8FileInDetail() {
        val metadata = ModelFile.read(bytes, "int8.tflite").metadata
        assertEquals("int8", metadata.precision)
        assertEquals("mobilenet0.25", metadata.preset)
        assertEquals(480 to 640, metadata.inputHeight to metadata.inputWidth)
        assertEquals(InputType.UINT8, metadata.inputType)
        assertEquals(listOf(123f, 117f, 104f), metadata.padding)
        assertEquals(listOf(8, 16, 32), metadata.levels.map { it.stride })
        assertEquals(listOf(16f, 32f), metadata.levels[0].sizes)
        assertEquals(0.5f to 0.4f, metadata.threshold to metadata.iou)
        assertTrue(metadata.resizable)
    }

    @Test
    fun refusesFilesThatWereCutOff() {
        for (length in listOf(1, 100, 1500, 3000, bytes.size / 2, bytes.size - 1)) refuse(bytes.copyOf(length))
        assertTrue(refuse(ByteArray(0)).contains("is empty"))
        assertTrue(refuse(bytes.copyOf(bytes.size - 1)).contains("truncated or damaged"))
    }

    @Test
    fun refusesFilesWithAnyByteChanged() {
        val random = Random(9)
        val places = listOf(0, 4, bytes.size - 1) + List(40) { random.nextInt(bytes.size) }
        for (place in places) refuse(bytes.clone().also { it[place] = (it[place] + 1).toByte() })
    }

    @Test
    fun refusesFilesOfOtherPrograms() {
        assertTrue(refuse(ByteArray(5000)).contains("another program's"))
        assertTrue(refuse("<html>not found</html>".toByteArray()).contains("another program's"))
        assertTrue(refuse(File(Vectors.folder, "pictures/astronaut.png").readBytes()).contains("another program's"))
    }

    @Test
    fun refusesSealedFilesThatItDoesNotUnderstand() {
        assertTrue(refuse(resealed("\"format\": 1", "\"format\": 2")).contains("update the app"))
        assertTrue(refuse(resealed("\"format\": 1,", "\"format\"= 1,")).contains("export it again"))
        assertTrue(refuse(resealed("\"uint8\"", "\"int64\"")).contains("export it again"))
        assertTrue(refuse(resealed("\"height\": 480", "\"height\": 0  ")).contains("export it again"))
        assertTrue(refuse(resealed("\"suppression\": null", "\"suppression\": true")).contains("--with-nms"))
        assertTrue(refuse(resealed("\"anchors\":", "\"anhcors\":")).contains("export it again"))
    }

    private fun refuse(damaged: ByteArray): String =
        assertThrows(ModelException::class.java) { ModelFile.read(damaged, "face.tflite") }.message!!
            .also { assertTrue(it, it.startsWith("face.tflite ")) }

    /** The file with its note changed, and sealed again. */
    private fun resealed(old: String, new: String): ByteArray {
        val text = String(bytes, Charsets.ISO_8859_1)
        assertTrue(old in text && old.length == new.length)
        val marker = "\"retinaface_tf_sha256\": \""
        val start = text.indexOf(marker) + marker.length
        val blank = text.replace(old, new).replaceRange(start, start + 64, "0".repeat(64))
        val digest = MessageDigest.getInstance("SHA-256").digest(blank.toByteArray(Charsets.ISO_8859_1))
        val hex = digest.joinToString("") { "%02x".format(it) }
        return blank.replaceRange(start, start + 64, hex).toByteArray(Charsets.ISO_8859_1)
    }
}
