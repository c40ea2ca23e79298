package retinaface

/**
 * The anchors of an input size, in the order of the network's outputs: level by level, row by row,
 * column by column, size by size. Each is a square of [size] around ([centerX], [centerY]), in pixels
 * of the input.
 */
internal class AnchorTable(levels: List<AnchorLevel>, inputWidth: Int, inputHeight: Int) {
    val count: Int = levels.sumOf { cells(inputHeight, it) * cells(inputWidth, it) * it.sizes.size }
    val centerX = FloatArray(count)
    val centerY = FloatArray(count)
    val size = FloatArray(count)

    init {
        var i = 0
        for (level in levels) {
            for (row in 0 until cells(inputHeight, level)) {
                for (column in 0 until cells(inputWidth, level)) {
                    for (side in level.sizes) {
                        centerX[i] = (column + 0.5f) * level.stride
                        centerY[i] = (row + 0.5f) * level.stride
                        size[i++] = side
                    }
                }
            }
        }
    }

    /** Every layer of stride 2 rounds up. */
    private fun cells(side: Int, level: AnchorLevel) = (side + level.stride - 1) / level.stride
}
