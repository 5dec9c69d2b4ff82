#!/bin/sh
# All that waits for a GPU, in one go of some twelve minutes on an H100, each part with its limit:
#
#     dev/on_gpu.sh LANGUAGE_MODEL DATA OUTPUT
#
# LANGUAGE_MODEL is SmolLM2-135M-Instruct (a folder or a GGUF file), DATA the folder of natural dialogues. First what is
# timed, with the card alone; then `upcycled-gpu` is trained, and measured on held-out data. Before all that two steps
# are trained, so that what fails there is known after a minute. Figures, plots and the trained run lie in OUTPUT; a
# part that is stopped goes on when the command is given again. Try it at small size without a GPU:
# DEVICE=cpu PARTS="speed train" dev/on_gpu.sh SMALL_MODEL DATA OUTPUT
set -u
model=$1 data=$2 output=$3
device=${DEVICE:-cuda} parts=${PARTS:-"begin speed train recall language repetition kernels"} python=${PYTHON:-python3}
cd "$(dirname "$0")/.." || exit 1
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
mkdir -p "$output"
run="$output/run"

# Runs a command for so many seconds at most, and says how it ended.
part() {
    limit=$1 name=$2
    shift 2
    begin=$(date +%s)
    timeout "$limit" "$@" > "$output/$name.log" 2>&1
    echo "$name: status $?, $(($(date +%s) - begin)) s"
}

for each in $parts; do
    case $each in
    begin)
        part 90 begin "$python" -m rxlm train upcycled-gpu retention --model "$model" --data "$data" \
            --output "$output/begun" --device "$device" --retention.steps 2 --retention.log-every 1 \
            --retention.phases '[{"steps": 2, "num_turns": 64, "fewest_turns": 4}]'
        tail -n 3 "$output/begin.log" ;;
    speed)
        part 150 gpu "$python" benchmarks/gpu.py "$model" --device "$device" --tokens 64 --repeats 3 --output "$output"
        part 60 training "$python" benchmarks/training.py --preset alpha --device "$device" --rows 128 \
            --dialogues 128 --output "$output" ;;
    train)
        part 400 train "$python" -m rxlm train upcycled-gpu retention --model "$model" --data "$data" \
            --output "$run" --device "$device" ;;
    recall)
        part 150 recall "$python" benchmarks/upcycled.py "$run/4-retention/model" "$model" "$data" --device "$device" \
            --rows 100 --parts recall --output "$output/recall" ;;
    language)
        part 150 language "$python" benchmarks/upcycled.py "$run/4-retention/model" "$model" "$data" --device "$device" \
            --rows 30 --parts worth tales ability cost --output "$output/language" ;;
    repetition)
        part 60 repetition "$python" benchmarks/repetition.py "$run/4-retention/model" "$model" --device "$device" \
            --output "$output/repetition" ;;
    kernels)
        part 60 sharded torchrun --standalone --nproc-per-node 1 benchmarks/sharded_training.py --device "$device" \
            --output "$output"
        part 60 attention "$python" benchmarks/attention.py --device "$device" --tokens 16384 65536 200000 \
            --window 1024 --output "$output"
        part 60 tensorbleu "$python" benchmarks/tensorbleu.py --device "$device" --output "$output" ;;
    *)
        echo "There is no part $each; there are begin, speed, train, recall, language, repetition, kernels." ;;
    esac
done
