#!/bin/bash
# Training on the nodes of one Slurm job: sbatch train/examples/slurm.sh, from a clone on a disk that all nodes see.
# The same job submitted again goes on where this one ended, on as many nodes as it then gets.
#SBATCH --job-name=portraitseg
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
# a minute before the time is up, so that the state is saved
#SBATCH --signal=TERM@60

set -euo pipefail

RUN=${RUN:-default}
CONFIG=${CONFIG:-train/configs/contour_medium.toml}
DATA=${DATA:?set DATA to the folder of photos}
PORT=${PORT:-29500}

WORKERS=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed "s/\$/:$PORT/" | paste -sd, -)
export RUN CONFIG DATA WORKERS

# one process a node; SLURM_PROCID is its number
srun --kill-on-bad-exit=0 bash -c \
  'exec .venv/bin/python -m train fit --run "$RUN" --config "$CONFIG" --data "$DATA" --workers "$WORKERS" --task "$SLURM_PROCID" --device gpu'
