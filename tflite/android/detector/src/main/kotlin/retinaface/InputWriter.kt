package retinaface

import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * Puts pictures into the network's input: RGB in 0..255, shrunk by averaging areas (as OpenCV's
 * INTER_AREA), or between their pixels (INTER_LINEAR) where a side grows; padded with the network's mean pixel. Reads a picture row by row, so a large photo
 * takes no more memory than a small one. Not thread-safe.
 */
internal class InputWriter(private val metadata: ModelMetadata, inputWidth: Int, inputHeight: Int) {
    /** The input, ready to be run after [write]. */
    val buffer: ByteBuffer =
        ByteBuffer.allocateDirect(inputWidth * inputHeight * 3 * metadata.inputType.bytes)
            .order(ByteOrder.nativeOrder())
    private val padding = IntArray(3) { Math.rint(metadata.padding[it].toDouble()).toInt() }
    private val rowLength = 3 * inputWidth
    private val row = IntArray(rowLength)
    private val floats = FloatArray(rowLength)
    private val bytes = ByteArray(rowLength)
    private var source = IntArray(0)

    fun write(picture: Picture, placement: Placement) {
        buffer.rewind()
        if (source.size < picture.width) source = IntArray(picture.width)
        fillRow(0)
        if (placement.contentWidth == picture.width && placement.contentHeight == picture.height) {
            copy(picture)
        } else if (placement.contentWidth > picture.width || placement.contentHeight > picture.height) {
            enlarge(picture, placement)
        } else {
            shrink(picture, placement)
        }
        fillRow(0)
        repeat(placement.inputHeight - placement.contentHeight) { putRow() }
        buffer.rewind()
    }

    private fun fillRow(from: Int) {
        for (i in 3 * from until rowLength) row[i] = padding[i % 3]
    }

    private fun copy(picture: Picture) {
        for (y in 0 until picture.height) {
            picture.readRow(y, source)
            for (x in 0 until picture.width) {
                row[3 * x] = source[x] shr 16 and 255
                row[3 * x + 1] = source[x] shr 8 and 255
                row[3 * x + 2] = source[x] and 255
            }
            putRow()
        }
    }

    /** Each pixel of the content is the mean of the rectangle it stands for. */
    private fun shrink(picture: Picture, placement: Placement) {
        val columns = placement.contentWidth
        val across = picture.width.toDouble() / columns
        val down = picture.height.toDouble() / placement.contentHeight
        val line = FloatArray(3 * columns)
        val sum = FloatArray(3 * columns)
        var read = -1
        for (y in 0 until placement.contentHeight) {
            sum.fill(0f)
            val top = y * down
            val bottom = minOf((y + 1) * down, picture.height.toDouble())
            for (sourceRow in top.toInt() until ceil(bottom)) {
                if (sourceRow != read) {
                    picture.readRow(sourceRow, source)
                    shrinkRow(line, columns, across, picture.width)
                    read = sourceRow
                }
                val share = (minOf(bottom, sourceRow + 1.0) - maxOf(top, sourceRow.toDouble())).toFloat()
                for (i in line.indices) sum[i] += share * line[i]
            }
            val area = (across * down).toFloat()
            for (i in sum.indices) row[i] = Math.rint((sum[i] / area).toDouble()).toInt().coerceIn(0, 255)
            putRow()
        }
    }

    /** Each pixel of the content is between the four around its middle. */
    private fun enlarge(picture: Picture, placement: Placement) {
        val columns = between(picture.width, placement.contentWidth)
        var above = FloatArray(3 * placement.contentWidth)
        var below = FloatArray(3 * placement.contentWidth)
        var read = -1
        for ((upper, down) in between(picture.height, placement.contentHeight)) {
            val lower = minOf(upper + 1, picture.height - 1)
            while (read < lower) {
                above = below.also { below = above }
                picture.readRow(++read, source)
                enlargeRow(below, columns, picture.width)
            }
            // Below the middle of the last row both are that one.
            val first = if (upper == read) below else above
            for (i in above.indices) row[i] = Math.rint((first[i] + (below[i] - first[i]) * down).toDouble()).toInt()
            putRow()
        }
    }

    private fun enlargeRow(line: FloatArray, columns: List<Pair<Int, Float>>, width: Int) {
        for ((x, column) in columns.withIndex()) {
            val (left, across) = column
            val a = source[left]
            val b = source[minOf(left + 1, width - 1)]
            for (channel in 0 until 3) {
                val shift = 16 - 8 * channel
                val from = a shr shift and 255
                line[3 * x + channel] = from + ((b shr shift and 255) - from) * across
            }
        }
    }

    /** For each of [to] cells the first of the two of [from] cells around its middle, and the share of the second. */
    private fun between(from: Int, to: Int): List<Pair<Int, Float>> = List(to) {
        val middle = ((it + 0.5) * from / to - 0.5).coerceIn(0.0, from - 1.0)
        middle.toInt() to (middle - middle.toInt()).toFloat()
    }

    private fun shrinkRow(line: FloatArray, columns: Int, across: Double, width: Int) {
        for (x in 0 until columns) {
            val left = x * across
            val right = minOf((x + 1) * across, width.toDouble())
            var red = 0f
            var green = 0f
            var blue = 0f
            for (column in left.toInt() until ceil(right)) {
                val share = (minOf(right, column + 1.0) - maxOf(left, column.toDouble())).toFloat()
                val pixel = source[column]
                red += share * (pixel shr 16 and 255)
                green += share * (pixel shr 8 and 255)
                blue += share * (pixel and 255)
            }
            line[3 * x] = red
            line[3 * x + 1] = green
            line[3 * x + 2] = blue
        }
    }

    private fun ceil(value: Double): Int = Math.ceil(value - EPSILON).toInt()

    private fun putRow() {
        if (metadata.inputType == InputType.UINT8) {
            for (i in row.indices) bytes[i] = row[i].toByte()
            buffer.put(bytes)
        } else {
            for (i in row.indices) floats[i] = row[i].toFloat()
            buffer.asFloatBuffer().put(floats)
            buffer.position(buffer.position() + 4 * rowLength)
        }
    }
}

/** What rounding may add to a border between pixels. */
private const val EPSILON = 1e-7
