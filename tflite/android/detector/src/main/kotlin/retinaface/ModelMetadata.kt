package retinaface

import org.json.JSONException
import org.json.JSONObject

/** Number type of the network's input. */
enum class InputType(val bytes: Int) {
    FLOAT32(4),
    UINT8(1),
}

/**
 * A level of the network's pyramid.
 *
 * @property stride pixels between neighbouring cells.
 * @property sizes sides of the square anchors of each cell, in pixels.
 */
data class AnchorLevel(val stride: Int, val sizes: List<Float>)

/**
 * What a file of `retinaface-tf export tflite` says about itself.
 *
 * @property precision "float32", "float16", "dynamic" or "int8".
 * @property preset name of the trained network, if it has one.
 * @property version of the package that wrote the file.
 * @property inputHeight height of the input in pixels.
 * @property inputWidth width of the input in pixels.
 * @property inputType numbers of the input, RGB in 0..255.
 * @property padding RGB of what lies beside a picture that does not fill the input.
 * @property resizable whether the input may be resized to other multiples of [sizeMultiple].
 * @property sizeMultiple the coarsest stride.
 * @property levels from fine to coarse.
 * @property centerVariance scale of the deltas of centres and points.
 * @property sizeVariance scale of the deltas of sizes.
 * @property threshold least score of a face, to begin with.
 * @property iou overlap above which the worse detection is dropped, to begin with.
 */
data class ModelMetadata(
    val precision: String,
    val preset: String?,
    val version: String,
    val inputHeight: Int,
    val inputWidth: Int,
    val inputType: InputType,
    val padding: List<Float>,
    val resizable: Boolean,
    val sizeMultiple: Int,
    val levels: List<AnchorLevel>,
    val centerVariance: Float,
    val sizeVariance: Float,
    val threshold: Float,
    val iou: Float,
) {
    companion object {
        /** Version of the block that this library reads. */
        const val FORMAT = 1

        /**
         * Reads the JSON block.
         *
         * @param name what messages call the file.
         * @throws ModelException it is not JSON, of another version, or ends in faces.
         */
        fun parse(json: String, name: String): ModelMetadata =
            try {
                read(JSONObject(json), name)
            } catch (error: JSONException) {
                throw ModelException("$name describes itself in a way this app does not know: export it again.", error)
            }

        private fun read(block: JSONObject, name: String): ModelMetadata {
            val format = block.optInt("format")
            if (format != FORMAT) {
                throw ModelException(
                    "$name has format $format and this app reads $FORMAT: update the app, or export the file again.",
                )
            }
            if (!block.isNull("suppression")) {
                throw ModelException(
                    "$name ends in faces, and this app reads raw heads: export it again without --with-nms.",
                )
            }
            val input = block.getJSONObject("input")
            val variances = block.getJSONObject("variances")
            val type = input.getString("dtype")
            return ModelMetadata(
                precision = block.getString("precision"),
                preset = if (block.isNull("preset")) null else block.getString("preset"),
                version = block.getString("version"),
                inputHeight = input.getInt("height"),
                inputWidth = input.getInt("width"),
                inputType = InputType.values().find { it.name.equals(type, ignoreCase = true) }
                    ?: throw JSONException("dtype $type"),
                padding = input.getJSONArray("padding").let { values -> List(3) { values.getDouble(it).toFloat() } },
                resizable = input.getBoolean("resizable"),
                sizeMultiple = input.getInt("size_multiple"),
                levels = readLevels(block.getJSONObject("anchors")),
                centerVariance = variances.getDouble("center").toFloat(),
                sizeVariance = variances.getDouble("size").toFloat(),
                threshold = block.getDouble("threshold").toFloat(),
                iou = block.getDouble("iou").toFloat(),
            ).also { it.check() }
        }

        private fun readLevels(anchors: JSONObject): List<AnchorLevel> {
            val levels = anchors.getJSONArray("levels")
            return List(levels.length()) { i ->
                val level = levels.getJSONObject(i)
                val sizes = level.getJSONArray("sizes")
                AnchorLevel(level.getInt("stride"), List(sizes.length()) { sizes.getDouble(it).toFloat() })
            }
        }
    }

    private fun check() {
        val sizes = listOf(inputHeight, inputWidth, sizeMultiple) + levels.map { it.stride }
        if (levels.isEmpty() || sizes.any { it !in 1..MAX_SIDE }) throw JSONException("sizes $sizes")
    }
}

private const val MAX_SIDE = 8192
