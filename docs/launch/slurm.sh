#!/bin/bash
# One training on several machines of a Slurm cluster: sbatch docs/launch/slurm.sh
# Change the numbers below and CONFIG; the folder must be on a file system that all machines share.
#SBATCH --job-name=ppdet
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@120

set -euo pipefail
CONFIG=faster_rcnn_r50_fpn_1x_coco

# The first machine's address, as it knows it itself: its name may mean 127.0.1.1 there.
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
master=$(srun --nodes=1 --ntasks=1 --nodelist="$first" hostname -I | cut -d ' ' -f 1)

# A job that was requeued goes on where the last one saved.
resume=()
if [ -f "output/$CONFIG/checkpoints.json" ]; then
  resume=(-r auto)
fi

srun --kill-on-bad-exit=0 \
  ppdet launch --nnodes "$SLURM_JOB_NUM_NODES" --master "$master:29400" --wait 300 \
  -- train -c "$CONFIG" --eval "${resume[@]}"
