#!/usr/bin/env bash
# One training on several nodes under SLURM: sbatch scripts/slurm.sh model=unet blur.length=9
# Lightning reads ranks and addresses from SLURM's environment; the folder must be shared by the nodes.
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4      # one for each GPU, equal to trainer.devices
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=SIGTERM@120     # two minutes before the end: the run saves and stops, resume=<run> continues it
set -euo pipefail
source .venv/bin/activate
srun python train.py trainer=ddp trainer.num_nodes="$SLURM_NNODES" trainer.devices="$SLURM_NTASKS_PER_NODE" "$@"
