package retinaface

import kotlin.math.PI
import kotlin.math.abs

/**
 * Steadies boxes and points of a video: a One Euro filter (Casiez, Roussel and Vogel, CHI 2012) for
 * each coordinate, which averages much while a face rests and little while it moves. A face is taken
 * for that of the frame before which it overlaps most. Not thread-safe.
 *
 * @param rest cut-off in Hz of a face at rest: lower is steadier.
 * @param haste how much the cut-off rises with speed, in Hz for each face width per second: higher
 *   follows faster.
 */
class LandmarkSmoother(private val rest: Float = 1.2f, private val haste: Float = 4f) {
    private class Track(var face: Face, val filters: List<OneEuro>)

    private var tracks: List<Track> = emptyList()
    private var last = 0L

    /**
     * @param faces of this frame.
     * @param nanos time of the frame, in nanoseconds of any clock. Time that stands still or runs
     *   back, or a gap of more than a second, begins anew.
     * @return the faces in the same order, steadied.
     */
    fun smooth(faces: List<Face>, nanos: Long): List<Face> {
        val seconds = (nanos - last) / 1e9f
        if (seconds <= 0f || seconds > 1f) tracks = emptyList()
        last = nanos
        val free = tracks.toMutableList()
        tracks = faces.map { face ->
            val track = free.maxByOrNull { it.face.box.overlap(face.box) }
                ?.takeIf { it.face.box.overlap(face.box) > SAME }
            if (track == null) {
                Track(face, coordinates(face).map { OneEuro(it) })
            } else {
                free -= track
                val scale = maxOf(1f, maxOf(face.box.width, face.box.height))
                val values = coordinates(face).mapIndexed { i, value ->
                    track.filters[i].next(value, seconds, rest, haste, scale)
                }
                track.also { it.face = rebuild(face, values) }
            }
        }
        return tracks.map { it.face }
    }

    /** Forgets all faces: of a new camera, say. */
    fun reset() {
        tracks = emptyList()
    }

    private fun coordinates(face: Face): List<Float> =
        face.box.run { listOf(left, top, right, bottom) } + face.landmarks.flatMap { listOf(it.x, it.y) }

    private fun rebuild(face: Face, values: List<Float>) = face.copy(
        box = Box(values[0], values[1], values[2], values[3]),
        landmarks = values.drop(4).chunked(2) { Point(it[0], it[1]) },
    )

    private companion object {
        const val SAME = 0.3f
    }
}

/** One coordinate; speed is filtered at 1 Hz, as the paper proposes. */
private class OneEuro(private var value: Float) {
    private var speed = 0f

    fun next(measured: Float, seconds: Float, rest: Float, haste: Float, scale: Float): Float {
        speed += share(1f, seconds) * ((measured - value) / seconds - speed)
        value += share(rest + haste * abs(speed) / scale, seconds) * (measured - value)
        return value
    }

    /** Of the new value, by a low-pass filter of that cut-off. */
    private fun share(hertz: Float, seconds: Float): Float {
        val radians = 2 * PI.toFloat() * hertz * seconds
        return radians / (radians + 1)
    }
}
