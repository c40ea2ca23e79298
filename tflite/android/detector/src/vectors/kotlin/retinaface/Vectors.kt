package retinaface

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.Base64
import org.json.JSONArray
import org.json.JSONObject

/** Vectors that `tflite/write_vectors.py` wrote: outputs of networks and the faces Python reads in them. */
object Vectors {
    val folder: File = File(
        System.getProperty("retinaface.vectors")
            ?: error("Write vectors (python tflite/write_vectors.py DIR) and give -Dretinaface.vectors=DIR"),
    )

    fun all(): List<Vector> =
        listOf("drawn", "photos").flatMap { kind ->
            File(folder, kind).listFiles().orEmpty().filter { it.extension == "json" }.sorted().map { Vector(it) }
        }

    fun photo(name: String) = Vector(File(folder, "photos/$name.json"))

    fun zoom(): List<ZoomVector> =
        File(folder, "zoom").listFiles().orEmpty().filter { it.extension == "json" }.sorted().map { ZoomVector(it) }
}

/** Closer looks at invented faces. */
class ZoomVector(file: File) {
    private val json = JSONObject(file.readText())
    val name: String = file.nameWithoutExtension
    val iou = json.getDouble("iou").toFloat()
    val looks: List<Double> = json.getJSONArray("looks").let { looks -> List(looks.length()) { looks.getDouble(it) } }
    val steps: List<Step> = json.getJSONArray("steps").let { steps -> List(steps.length()) { Step(steps.getJSONObject(it)) } }
    val placement: Placement = whole(json.getJSONArray("original_size")).let { (height, width) ->
        val (contentHeight, contentWidth) = whole(json.getJSONArray("content_size"))
        Placement(width, height, contentWidth, contentHeight, contentWidth, contentHeight)
    }

    class Step(json: JSONObject) {
        val faces = readFaces(json.getJSONObject("faces"))
        val limit = json.getInt("limit")
        val tile = whole(json.getJSONArray("tile"))
        val corners = rows(json.getJSONArray("corners"))
        val parts = rows(json.getJSONArray("parts"))
        val found = json.getJSONArray("found").let { found -> List(found.length()) { readFaces(found.getJSONObject(it)) } }
        val joined = readFaces(json.getJSONObject("joined"))
    }

    private companion object {
        fun whole(values: JSONArray) = List(values.length()) { values.getInt(it) }

        fun rows(values: JSONArray) = List(values.length()) { whole(values.getJSONArray(it)) }
    }
}

class Vector(file: File) {
    private val json = JSONObject(file.readText())
    val name: String = file.nameWithoutExtension
    val metadata = ModelMetadata.parse(json.getJSONObject("metadata").toString(), name)
    val model: File? = path("model")
    val picture: File? = path("picture")
    val networkSize = size("network_size")
    val placement: Placement = size("original_size").let { (height, width) ->
        val (contentHeight, contentWidth) = size("content_size")
        Placement(width, height, contentWidth, contentHeight, networkSize.second, networkSize.first)
    }
    val threshold = json.getDouble("threshold").toFloat()
    val iou = json.getDouble("iou").toFloat()
    val maxFaces = json.optInt("max_faces", Int.MAX_VALUE)
    val outputs = json.getJSONObject("outputs").let {
        RawOutputs(floats(it, "scores"), floats(it, "box_deltas"), floats(it, "landmark_deltas"))
    }
    val faces: List<Face> = readFaces(json.getJSONObject("faces"))

    private fun path(key: String) = if (json.isNull(key)) null else File(Vectors.folder, json.getString(key))

    private fun size(key: String) = json.getJSONArray(key).let { it.getInt(0) to it.getInt(1) }

    private fun floats(values: JSONObject, key: String): FloatArray {
        val buffer = ByteBuffer.wrap(Base64.getDecoder().decode(values.getString(key))).order(ByteOrder.LITTLE_ENDIAN)
        return FloatArray(buffer.remaining() / 4).also { buffer.asFloatBuffer().get(it) }
    }
}

private fun readFaces(faces: JSONObject): List<Face> {
    val scores = faces.getJSONArray("scores")
    return List(scores.length()) { i ->
        val box = numbers(faces.getJSONArray("boxes").getJSONArray(i))
        val points = faces.getJSONArray("landmarks").getJSONArray(i)
        val landmarks = List(5) { p -> numbers(points.getJSONArray(p)).let { Point(it[0], it[1]) } }
        Face(Box(box[0], box[1], box[2], box[3]), scores.getDouble(i).toFloat(), landmarks)
    }
}

private fun numbers(values: JSONArray) = List(values.length()) { values.getDouble(it).toFloat() }
