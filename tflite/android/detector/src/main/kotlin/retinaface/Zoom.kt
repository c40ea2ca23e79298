package retinaface

import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min

/** Corners of a rectangle in whole pixels. */
internal data class Part(val left: Int, val top: Int, val right: Int, val bottom: Int) {
    val width: Int get() = right - left
    val height: Int get() = bottom - top
}

/** A part of a picture. */
internal class PartOfPicture(private val picture: Picture, private val part: Part) : Picture {
    override val width: Int get() = part.width
    override val height: Int get() = part.height
    private val row = IntArray(picture.width)

    override fun readRow(y: Int, into: IntArray) {
        picture.readRow(part.top + y, row)
        row.copyInto(into, 0, part.left, part.right)
    }
}

/**
 * Closer looks where faces are small: tiles of the picture around what the look before was unsure of,
 * as in `retinaface_tf.inference.zoom` and `retinaface_tf.geometry.tiles`.
 *
 * @param placement of the first look.
 * @param tileWidth of the network's input for tiles; likewise [tileHeight].
 */
internal class Zoom(private val placement: Placement, private val tileWidth: Int, private val tileHeight: Int) {
    private val scaleX = placement.contentWidth.toDouble() / placement.width
    private val scaleY = placement.contentHeight.toDouble() / placement.height

    /** How many times closer than the first look the further looks are, rising. */
    val looks: List<Double> = buildList {
        val limit = min(1 / scaleX, 1 / scaleY).coerceIn(STEP, CLOSEST)
        var last = 1.0
        while (limit / last > LEAST_STEP) {
            last = min(STEP * last, limit)
            add(last)
        }
    }

    /**
     * The faces of a picture after as many closer looks as its pixels and the [budget], the most tiles, allow.
     *
     * @param found by the first look, down to [LEAST_SCORE].
     * @param search finds faces in a part of the picture that is given a width and a height; in the part's pixels.
     */
    fun lookCloser(found: List<Face>, iou: Float, budget: Int, search: (Part, Int, Int) -> List<Face>): List<Face> {
        var faces = found
        var before = 1.0
        var left = budget
        for (closer in looks) {
            val parts = regions(faces, before, closer, left)
            val seen = parts.map { corners ->
                val part = view(closer, corners)
                search(part, corners.width, corners.height).map { it.moved(part.left.toFloat(), part.top.toFloat()) }
            }
            faces = join(faces, seen, parts, closer, iou)
            before = closer
            left -= parts.size
        }
        return faces
    }

    /** Where the picture is looked at again, in pixels of the closer look. */
    fun regions(faces: List<Face>, before: Double, closer: Double, limit: Int): List<Part> =
        faces.filter { it.score >= LEAST_SCORE && it.score < SURE }
            .map { Corners(it.box, scaleX * closer, scaleY * closer) }
            .filter { it.longerSide * before / closer < SMALL }
            .take(MOST_REGIONS)
            .let { cover(it, limit, size(closer)) }

    /** What a tile, in pixels of a closer look, shows of the picture. */
    fun view(closer: Double, corners: Part): Part {
        val (width, height) = size(closer)
        fun x(value: Int) = Math.rint(value * (placement.width.toDouble() / width)).toInt()
        fun y(value: Int) = Math.rint(value * (placement.height.toDouble() / height)).toInt()
        val (left, top) = x(corners.left) to y(corners.top)
        return Part(left, top, max(x(corners.right), left + 1), max(y(corners.bottom), top + 1))
    }

    /**
     * The faces of a look and of the tiles of the next one. A face that an inner edge of its tile cuts is left
     * to the look before; what that one found whole within a tile is replaced, or keeps a share of its score.
     */
    fun join(before: List<Face>, closer: List<List<Face>>, parts: List<Part>, magnification: Double, iou: Float): List<Face> {
        if (parts.isEmpty()) return before
        val size = size(magnification)
        fun whole(face: Face, part: Part): Boolean {
            val box = Corners(face.box, scaleX * magnification, scaleY * magnification)
            val inside = box.left >= part.left - 1 && box.top >= part.top - 1 &&
                box.right <= part.right + 1 && box.bottom <= part.bottom + 1
            return inside && box.longerSide < LARGEST * min(tileWidth, tileHeight) && !box.isCutBy(part, size)
        }
        val kept = best(closer.zip(parts).flatMap { (faces, part) -> faces.filter { whole(it, part) } }, iou)
        val left = before.mapNotNull { face ->
            when {
                parts.none { whole(face, it) } -> face
                kept.any { face.box.overlap(it.box) >= SAME } -> null
                else -> face.copy(score = UNCONFIRMED * face.score)
            }
        }
        return best(left + kept, iou)
    }

    /** Tiles of a picture of this size that have boxes in them, greedily: each takes the most that are left. */
    private fun cover(boxes: List<Corners>, limit: Int, size: Pair<Int, Int>): List<Part> {
        val width = min(tileWidth, size.first)
        val height = min(tileHeight, size.second)
        fun part(x: Int, y: Int): Part {
            val left = x.coerceIn(0, size.first - width)
            val top = y.coerceIn(0, size.second - height)
            return Part(left, top, left + width, top + height)
        }
        val wanted = boxes.map { it.withMargin(size) }.filter { it.width <= tileWidth && it.height <= tileHeight }
        // Some best part has boxes at two of its edges.
        val lefts = listOf<(Part) -> Int>({ it.left }, { it.right - tileWidth })
        val tops = listOf<(Part) -> Int>({ it.top }, { it.bottom - tileHeight })
        val ends = lefts.flatMap { x -> tops.flatMap { y -> wanted.map { part(x(it), y(it)) } } }
        val gains = ends.map { end -> wanted.indices.filter { wanted[it] in end } }
        val left = wanted.indices.toMutableSet()
        val chosen = ArrayList<Part>()
        while (chosen.size < limit && left.isNotEmpty()) {
            var best = emptyList<Int>()
            for (gain in gains) {
                val fresh = gain.filter { it in left }
                if (fresh.size > best.size) best = fresh
            }
            // What it was chosen for is in its middle.
            val middleX = (best.minOf { wanted[it].left } + best.maxOf { wanted[it].right }) / 2.0
            val middleY = (best.minOf { wanted[it].top } + best.maxOf { wanted[it].bottom }) / 2.0
            chosen += part(floor(middleX - tileWidth / 2.0).toInt(), floor(middleY - tileHeight / 2.0).toInt())
            left.removeAll { wanted[it] in chosen.last() }
        }
        return chosen
    }

    /** Width and height of the whole picture in a closer look. */
    private fun size(closer: Double): Pair<Int, Int> =
        max(1, Math.rint(placement.contentWidth * closer).toInt()) to max(1, Math.rint(placement.contentHeight * closer).toInt())

    companion object {
        // As in Python, which says where they come from.
        const val TILE = 224
        const val LEAST_SCORE = 0.2f
        private const val SURE = 0.9f
        private const val SMALL = 20.0
        private const val MARGIN = 0.5
        private const val LARGEST = 0.5
        private const val STEP = 2.0
        private const val LEAST_STEP = 1.2
        private const val CLOSEST = 4.0
        private const val SAME = 0.3f
        private const val UNCONFIRMED = 0.5f
        private const val MOST_REGIONS = 500

        /** A box this near to an edge that cuts through the picture, in shares of its size, is taken for cut itself. */
        private const val CUT_MARGIN = 0.05
    }

    /** A box in pixels of a closer look. */
    private class Corners(box: Box, x: Double, y: Double) {
        val left = box.left * x
        val top = box.top * y
        val right = box.right * x
        val bottom = box.bottom * y
        val longerSide: Double get() = max(right - left, bottom - top)

        fun withMargin(size: Pair<Int, Int>): Part {
            val across = MARGIN * (right - left)
            val down = MARGIN * (bottom - top)
            return Part(
                floor(max(left - across, 0.0)).toInt(),
                floor(max(top - down, 0.0)).toInt(),
                ceil(min(right + across, size.first.toDouble())).toInt(),
                ceil(min(bottom + down, size.second.toDouble())).toInt(),
            )
        }

        /** Whether it ends at an edge of a part that is not the picture's own. */
        fun isCutBy(part: Part, size: Pair<Int, Int>): Boolean {
            val across = CUT_MARGIN * (right - left)
            val down = CUT_MARGIN * (bottom - top)
            return part.left > 0 && abs(left - part.left) < across ||
                part.top > 0 && abs(top - part.top) < down ||
                part.right < size.first && abs(right - part.right) < across ||
                part.bottom < size.second && abs(bottom - part.bottom) < down
        }
    }
}

private operator fun Part.contains(other: Part): Boolean =
    left <= other.left && top <= other.top && right >= other.right && bottom >= other.bottom

private fun best(faces: List<Face>, iou: Float): List<Face> =
    suppress(faces.map { it.box }, FloatArray(faces.size) { faces[it].score }, iou, Int.MAX_VALUE).map { faces[it] }

private fun Face.moved(x: Float, y: Float) = Face(
    Box(box.left + x, box.top + y, box.right + x, box.bottom + y),
    score,
    landmarks.map { Point(it.x + x, it.y + y) },
)
