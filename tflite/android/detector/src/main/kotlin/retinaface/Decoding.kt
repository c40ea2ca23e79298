package retinaface

import kotlin.math.exp

/**
 * What the network gives for one picture, for N anchors.
 *
 * @property scores N probabilities, 0..1.
 * @property boxDeltas N times the deltas x, y, w, h.
 * @property landmarkDeltas N times the deltas of five x, y pairs.
 */
class RawOutputs(val scores: FloatArray, val boxDeltas: FloatArray, val landmarkDeltas: FloatArray)

/** Reads faces in the network's outputs, as `retinaface_tf.inference.postprocess` does. */
internal class Decoder(private val metadata: ModelMetadata, inputWidth: Int, inputHeight: Int) {
    val anchors = AnchorTable(metadata.levels, inputWidth, inputHeight)

    /**
     * The faces of a picture, best first.
     *
     * @throws ModelException the outputs are not those of this network, or no numbers.
     */
    fun read(
        outputs: RawOutputs,
        placement: Placement,
        threshold: Float,
        iou: Float,
        maxFaces: Int,
    ): List<Face> {
        check(outputs)
        val scores = outputs.scores
        val candidates = scores.indices.filter { scores[it] >= threshold }
        if (candidates.isEmpty() && scores.any { it.isNaN() }) {
            throw ModelException("The network's scores are not numbers (NaN): its weights are damaged.")
        }
        val width = placement.contentWidth.toFloat()
        val height = placement.contentHeight.toFloat()
        val boxes = ArrayList<Box>(candidates.size)
        val places = ArrayList<Int>(candidates.size)
        for (i in candidates) {
            val box = box(outputs.boxDeltas, i).clip(width, height)
            // Nothing is left of a box that lay in the padding.
            if (box.right > box.left && box.bottom > box.top) {
                boxes += box
                places += i
            }
        }
        val kept = suppress(boxes, FloatArray(places.size) { scores[places[it]] }, iou, maxFaces)
        return kept.map { face(boxes[it], outputs, places[it], placement) }
    }

    private fun check(outputs: RawOutputs) {
        val sizes = listOf(outputs.scores.size, outputs.boxDeltas.size, outputs.landmarkDeltas.size)
        val expected = listOf(anchors.count, 4 * anchors.count, 10 * anchors.count)
        if (sizes != expected) {
            throw ModelException("The network gave $sizes numbers where its file promises $expected: export it again.")
        }
    }

    private fun box(deltas: FloatArray, i: Int): Box {
        val size = anchors.size[i]
        val x = anchors.centerX[i] + deltas[4 * i] * metadata.centerVariance * size
        val y = anchors.centerY[i] + deltas[4 * i + 1] * metadata.centerVariance * size
        val halfWidth = size * exp(deltas[4 * i + 2] * metadata.sizeVariance) / 2
        val halfHeight = size * exp(deltas[4 * i + 3] * metadata.sizeVariance) / 2
        return Box(x - halfWidth, y - halfHeight, x + halfWidth, y + halfHeight)
    }

    private fun face(box: Box, outputs: RawOutputs, i: Int, placement: Placement): Face {
        val scaleX = placement.scaleX
        val scaleY = placement.scaleY
        val original = Box(box.left / scaleX, box.top / scaleY, box.right / scaleX, box.bottom / scaleY)
        val reach = metadata.centerVariance
        val landmarks = List(5) { point ->
            val x = outputs.landmarkDeltas[10 * i + 2 * point] * reach * anchors.size[i]
            val y = outputs.landmarkDeltas[10 * i + 2 * point + 1] * reach * anchors.size[i]
            Point((anchors.centerX[i] + x) / scaleX, (anchors.centerY[i] + y) / scaleY)
        }
        val inside = original.clip(placement.width.toFloat(), placement.height.toFloat())
        return Face(inside, outputs.scores[i], landmarks)
    }
}

private fun Box.clip(width: Float, height: Float) = Box(
    left.coerceIn(0f, width),
    top.coerceIn(0f, height),
    right.coerceIn(0f, width),
    bottom.coerceIn(0f, height),
)
