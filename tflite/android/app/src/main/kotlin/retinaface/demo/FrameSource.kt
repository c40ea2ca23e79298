package retinaface.demo

import android.view.Surface
import retinaface.Picture

/** Side of the device a camera looks from. */
enum class Facing {
    FRONT,
    BACK,
    ;

    val other: Facing get() = if (this == FRONT) BACK else FRONT
}

/**
 * How a camera's frames are to be shown.
 *
 * @property bufferWidth of the preview's surface; likewise [bufferHeight].
 * @property width of an upright frame; likewise [height].
 * @property mirrored whether the preview is shown as in a mirror.
 */
data class FrameFormat(
    val bufferWidth: Int,
    val bufferHeight: Int,
    val width: Int,
    val height: Int,
    val mirrored: Boolean,
)

/** A camera. To be used from the main thread. */
interface FrameSource {
    /** Cameras there are. */
    val facings: List<Facing>

    /**
     * What frames a camera will give.
     *
     * @param displayRotation of the screen from its natural orientation, in degrees: 0, 90, 180, 270.
     * @throws CameraException the camera is not to be had.
     */
    fun format(facing: Facing, displayRotation: Int): FrameFormat

    /** Starts the camera: it draws on [preview] and hands frames to [listener]. */
    fun start(facing: Facing, displayRotation: Int, preview: Surface, listener: Listener)

    /** Stops it; no frame is handed over afterwards. Stopping twice does nothing. */
    fun stop()

    interface Listener {
        /**
         * Called in the camera's own thread, for the newest frame once the last call returned.
         *
         * @param nanos time the frame was taken.
         */
        fun onFrame(frame: Picture, nanos: Long)

        /** Called in the main thread: there will be no more frames. */
        fun onFailure(reason: String)
    }
}

/** A camera that cannot be used; [message] is for a person to read in "The camera cannot be used (...)". */
class CameraException(message: String, cause: Throwable? = null) : Exception(message, cause)
