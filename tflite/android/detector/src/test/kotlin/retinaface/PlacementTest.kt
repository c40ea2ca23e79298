package retinaface

import org.junit.Assert.assertEquals
import org.junit.Test

class PlacementTest {
    @Test
    fun placesPicturesAsPythonDoes() {
        for (vector in Vectors.all().filter { it.picture != null && !it.name.endsWith("-resized") }) {
            val (height, width) = vector.networkSize
            val expected = vector.placement
            assertEquals(vector.name, expected, Placement.fit(expected.width, expected.height, width, height))
        }
    }

    @Test
    fun neverLosesASideOfAThinPicture() {
        assertEquals(1, Placement.fit(10_000, 1, 640, 480).contentHeight)
        assertEquals(1, Placement.fit(1, 10_000, 640, 480).contentWidth)
    }
}
