package retinaface

import android.content.res.AssetManager
import android.graphics.Bitmap
import java.io.File
import java.io.IOException
import org.tensorflow.lite.Interpreter

/**
 * Finds faces in pictures, with a .tflite file that `retinaface-tf export tflite` wrote.
 *
 * ```
 * RetinaFaceDetector.fromAsset(context.assets, "float32.tflite").use { detector ->
 *     for (face in detector.detect(bitmap)) println("${face.box} ${face.score}")
 * }
 * ```
 *
 * May be called from several threads: they take turns, since an interpreter answers one at a time.
 * The memory outside of Java's heap is given back by [close], which waits for a search under way.
 *
 * A picture larger than the file's input is shrunk to fit into it; one taller than wide is searched
 * in the input turned on its side, where the file allows that. Faces smaller than about 10 pixels in
 * what the network sees are missed, so export at the size that your faces need.
 *
 * @property metadata what the file says about itself.
 * @param network what runs it; [fromAsset] and [fromFile] take the TensorFlow Lite interpreter. It is
 *   closed with the detector.
 */
class RetinaFaceDetector(val metadata: ModelMetadata, private val network: Network) : AutoCloseable {
    private val lock = Any()
    private var workspace: Workspace? = null
    private var tileWorkspace: Workspace? = null
    private var closed = false

    /**
     * All faces of a picture, best first, in its own pixels.
     *
     * @param threshold least score of a face, 0..1; the file's own unless given.
     * @param iou overlap above which the worse of two detections is dropped, 0..1.
     * @param maxFaces keep the best so many.
     * @param zoomTiles look closer, in at most so many tiles, where faces are small; 0 for not. A tile takes the
     *   time of a picture of 224 x 224 pixels, or of the file's input where that cannot be resized.
     * @throws ModelException the network cannot be run, or its answer is no answer.
     * @throws IllegalArgumentException a setting is out of range, or the picture has no pixels.
     * @throws IllegalStateException the detector is closed.
     */
    @JvmOverloads
    fun detect(
        picture: Picture,
        threshold: Float = metadata.threshold,
        iou: Float = metadata.iou,
        maxFaces: Int = Int.MAX_VALUE,
        zoomTiles: Int = 0,
    ): List<Face> {
        require(threshold in 0f..1f && iou in 0f..1f) { "threshold=$threshold and iou=$iou must be from 0 to 1" }
        require(maxFaces > 0) { "maxFaces=$maxFaces must be at least 1" }
        require(zoomTiles >= 0) { "zoomTiles=$zoomTiles must not be negative" }
        require(picture.width > 0 && picture.height > 0) { "the picture has no pixels" }
        synchronized(lock) {
            check(!closed) { "this detector is closed" }
            val work = workspaceFor(picture)
            val placement = Placement.fit(picture.width, picture.height, work.width, work.height)
            if (zoomTiles == 0) return search(picture, work, placement, threshold, iou, maxFaces)
            val least = minOf(threshold, Zoom.LEAST_SCORE)
            val found = search(picture, work, placement, least, iou)
            val tile = tileWorkspace ?: tileWorkspace().also { tileWorkspace = it }
            val closer = Zoom(placement, tile.width, tile.height).lookCloser(found, iou, zoomTiles) { part, width, height ->
                val where = Placement(part.width, part.height, width, height, tile.width, tile.height)
                search(PartOfPicture(picture, part), tile, where, least, iou)
            }
            return closer.filter { it.score >= threshold }.take(maxFaces)
        }
    }

    private fun search(
        picture: Picture,
        work: Workspace,
        placement: Placement,
        threshold: Float,
        iou: Float,
        maxFaces: Int = Int.MAX_VALUE,
    ): List<Face> {
        work.input.write(picture, placement)
        val outputs = network.run(work.input.buffer, work.height, work.width)
        return work.decoder.read(outputs, placement, threshold, iou, maxFaces)
    }

    /** [detect] for a bitmap. */
    @JvmOverloads
    fun detect(bitmap: Bitmap, threshold: Float = metadata.threshold): List<Face> =
        detect(BitmapPicture(bitmap), threshold)

    /** Closes the interpreter; calling it again does nothing. */
    override fun close() = synchronized(lock) {
        if (!closed) {
            closed = true
            workspace = null
            tileWorkspace = null
            network.close()
        }
    }

    private fun workspaceFor(picture: Picture): Workspace {
        val sides = listOf(metadata.inputWidth, metadata.inputHeight)
        val upright = metadata.resizable && (picture.height > picture.width) != (sides[1] > sides[0])
        val (width, height) = if (upright) sides.reversed() else sides
        val kept = workspace
        if (kept != null && kept.width == width && kept.height == height) return kept
        return Workspace(metadata, width, height).also { workspace = it }
    }

    private fun tileWorkspace(): Workspace {
        if (!metadata.resizable) return Workspace(metadata, metadata.inputWidth, metadata.inputHeight)
        val multiple = metadata.sizeMultiple
        val side = (Zoom.TILE + multiple - 1) / multiple * multiple
        return Workspace(metadata, side, side)
    }

    /** What a size of input needs, kept for the next picture of that size. */
    private class Workspace(metadata: ModelMetadata, val width: Int, val height: Int) {
        val input = InputWriter(metadata, width, height)
        val decoder = Decoder(metadata, width, height)
    }

    companion object {
        /** Most of a model file that is read, in bytes. */
        private const val MAX_FILE = 256L shl 20

        /**
         * Opens a model among the app's assets.
         *
         * @param options of the interpreter: threads, delegates.
         * @throws ModelException the asset is missing, damaged or another program's.
         */
        @JvmOverloads
        @JvmStatic
        fun fromAsset(assets: AssetManager, path: String, options: Interpreter.Options = defaults()): RetinaFaceDetector =
            open(readBytes(path) { assets.open(path).use { it.readBytes() } }, path, options)

        /** Opens a model file; see [fromAsset]. */
        @JvmOverloads
        @JvmStatic
        fun fromFile(file: File, options: Interpreter.Options = defaults()): RetinaFaceDetector {
            if (file.length() > MAX_FILE) throw ModelException("$file is too large to be a model: check the path.")
            return open(readBytes(file.path) { file.readBytes() }, file.name, options)
        }

        /** Two threads: on most phones more wait for the slow cores. */
        fun defaults(): Interpreter.Options = Interpreter.Options().setNumThreads(2)

        private fun open(bytes: ByteArray, name: String, options: Interpreter.Options): RetinaFaceDetector {
            val model = ModelFile.read(bytes, name)
            return RetinaFaceDetector(model.metadata, InterpreterNetwork(model, options))
        }

        private fun readBytes(name: String, read: () -> ByteArray): ByteArray =
            try {
                read()
            } catch (error: IOException) {
                throw ModelException("Cannot read $name: check that the file is there.", error)
            }
    }
}
